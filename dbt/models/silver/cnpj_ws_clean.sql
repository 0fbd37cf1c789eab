select
  buyer_tax_id,
  share_capital,
  company_size,
  legal_nature,
  company_status,
  main_cnae,
  state,
  uf,
  city,
  zipcode,
  simples_option,
  is_mei,
  is_main_company,
  is_active,
  created_at,
  updated_at,
  upper(trim(state)) as standardized_state,
  upper(trim(uf)) as standardized_uf,
  upper(trim(city)) as standardized_city,
  case
    when share_capital is null or share_capital < 0 then 'INVALID_CAPITAL'
    when zipcode is null or char_length(zipcode) != 8 then 'INVALID_ZIPCODE'
    when main_cnae is null or trim(main_cnae) = '' then 'MISSING_CNAE'
    else 'VALID'
  end as data_quality_flag,
  _loaded_at,
  _extracted_at
from {{ ref('cnpj_ws') }}
where _deleted_at is null
