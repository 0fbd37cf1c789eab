"""Brazil as the sample data needs it: states, cities, postal ranges, activities, legal natures, sizes, statuses."""

from dataclasses import dataclass


@dataclass(frozen=True)
class State:
    """A federal unit.

    Attributes:
        uf: two-letter code.
        name: full name, as a person writes it.
        weight: relative share of the sample's companies.
        zipcodes: first and last five-digit postal prefix.
        cities: some of its cities.
    """

    uf: str
    name: str
    weight: int
    zipcodes: tuple[int, int]
    cities: tuple[str, ...]


STATES: tuple[State, ...] = (
    State("SP", "São Paulo", 300, (1000, 19999), ("São Paulo", "Campinas", "Ribeirão Preto", "Santos", "Sorocaba")),
    State("MG", "Minas Gerais", 105, (30000, 39999), ("Belo Horizonte", "Uberlândia", "Contagem", "Juiz de Fora")),
    State("RJ", "Rio de Janeiro", 90, (20000, 28999), ("Rio de Janeiro", "Niterói", "Duque de Caxias", "Petrópolis")),
    State("PR", "Paraná", 75, (80000, 87999), ("Curitiba", "Londrina", "Maringá", "Cascavel")),
    State("RS", "Rio Grande do Sul", 72, (90000, 99999), ("Porto Alegre", "Caxias do Sul", "Pelotas", "Canoas")),
    State("SC", "Santa Catarina", 60, (88000, 89999), ("Florianópolis", "Joinville", "Blumenau", "Chapecó")),
    State("BA", "Bahia", 50, (40000, 48999), ("Salvador", "Feira de Santana", "Vitória da Conquista", "Ilhéus")),
    State("GO", "Goiás", 38, (74000, 76799), ("Goiânia", "Anápolis", "Rio Verde")),
    State("PE", "Pernambuco", 32, (50000, 56999), ("Recife", "Jaboatão dos Guararapes", "Caruaru", "Petrolina")),
    State("CE", "Ceará", 30, (60000, 63999), ("Fortaleza", "Juazeiro do Norte", "Sobral")),
    State("ES", "Espírito Santo", 24, (29000, 29999), ("Vitória", "Vila Velha", "Cachoeiro de Itapemirim")),
    State("DF", "Distrito Federal", 22, (70000, 72799), ("Brasília",)),
    State("MT", "Mato Grosso", 20, (78000, 78899), ("Cuiabá", "Rondonópolis", "Sinop")),
    State("MS", "Mato Grosso do Sul", 16, (79000, 79999), ("Campo Grande", "Dourados", "Três Lagoas")),
    State("PA", "Pará", 16, (66000, 68899), ("Belém", "Ananindeua", "Santarém")),
    State("MA", "Maranhão", 13, (65000, 65999), ("São Luís", "Imperatriz")),
    State("PB", "Paraíba", 11, (58000, 58999), ("João Pessoa", "Campina Grande")),
    State("RN", "Rio Grande do Norte", 10, (59000, 59999), ("Natal", "Mossoró")),
    State("AM", "Amazonas", 10, (69000, 69299), ("Manaus", "Parintins")),
    State("AL", "Alagoas", 8, (57000, 57999), ("Maceió", "Arapiraca")),
    State("PI", "Piauí", 8, (64000, 64999), ("Teresina", "Parnaíba")),
    State("SE", "Sergipe", 6, (49000, 49999), ("Aracaju", "Itabaiana")),
    State("RO", "Rondônia", 6, (76800, 76999), ("Porto Velho", "Ji-Paraná")),
    State("TO", "Tocantins", 5, (77000, 77999), ("Palmas", "Araguaína")),
    State("AC", "Acre", 2, (69900, 69999), ("Rio Branco", "Cruzeiro do Sul")),
    State("AP", "Amapá", 2, (68900, 68999), ("Macapá", "Santana")),
    State("RR", "Roraima", 2, (69300, 69399), ("Boa Vista",)),
)

CNAES: tuple[str, ...] = (
    "4711302", "4712100", "4744099", "4530703", "4781400", "4771701", "4639701", "4649408", "4679699", "4661300",
    "5611201", "5620101", "4930202", "5211799", "4120400", "4321500", "6201501", "6204000", "6311900", "7020400",
    "7319002", "8121400", "8630503", "8599604", "9602501", "1091102", "1412601", "2539001", "3101200", "0115600",
)  # fmt: skip
"""Main activities (CNAE 2.3 subclasses, seven digits without punctuation)."""

MEI_LEGAL_NATURE = "213-5 - Empresário (Individual)"
LEGAL_NATURES: tuple[tuple[str, int], ...] = (
    ("206-2 - Sociedade Empresária Limitada", 70),
    (MEI_LEGAL_NATURE, 14),
    ("205-4 - Sociedade Anônima Fechada", 8),
    ("204-6 - Sociedade Anônima Aberta", 2),
    ("224-0 - Sociedade Simples Limitada", 4),
    ("214-3 - Cooperativa", 2),
)
"""Legal natures with their relative share among companies that are not MEI."""

SIZES: tuple[tuple[str | None, int, int], ...] = (
    ("MICRO", 48, 10_000),
    ("SMALL", 27, 80_000),
    ("MEDIUM", 14, 600_000),
    ("LARGE", 7, 12_000_000),
    (None, 4, 50_000),
)
"""Company sizes, relative share, and median share capital in reais."""

STATUSES: tuple[tuple[str, int], ...] = (("Ativa", 86), ("Baixada", 7), ("Suspensa", 3), ("Inapta", 4))
"""Registration statuses with their relative share."""
