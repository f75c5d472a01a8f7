"""The closed word lists of addresses: what may be written short, and what a word announces.

Sources: Correios (tipos de logradouro, abreviaturas), IBGE (CNEFE: espécies de complemento), daily use. Keys are folded
(`tokens.word_key`). An abbreviation is only ever expanded to what stands here, and grounding reads the same lists.
"""

from __future__ import annotations

from typing import Final


def _table(lines: str) -> dict[str, str]:
    """Return {short: long} of lines "Long: short short …"; the long form's own key is added by the caller's use."""
    table: dict[str, str] = {}
    for line in lines.strip().splitlines():
        long, _, shorts = line.partition(":")
        for short in shorts.split():
            table[short] = long.strip()
    return table


def _words(words: str) -> frozenset[str]:
    """Return the set of the words of a text."""
    return frozenset(words.split())


def _phrases(phrases: str) -> frozenset[str]:
    """Return the set of the phrases that "|" and line breaks separate."""
    return frozenset(phrase.strip() for phrase in phrases.replace("\n", "|").split("|") if phrase.strip())


def _many(entries: str) -> dict[str, tuple[str, ...]]:
    """Return {short: (long, …)} of entries "short: long long; …"."""
    pairs = (entry.split(":") for entry in entries.split(";"))
    return {short.strip(): tuple(longs.split()) for short, longs in pairs}


# Street types, spelled out, by every way of writing them.
STREET_TYPES: Final = _table("""
Rua: rua r ru
Avenida: avenida av ave aven avda avn avd avendia avenda avnida
Travessa: travessa travesa tv trav trv tva
Alameda: alameda al alam ala
Praça: praca pca pc prc pr
Rodovia: rodovia rod rdv rodov
Estrada: estrada estr est etr etd
Largo: largo lgo lg lrg
Ladeira: ladeira lad ld
Beco: beco bc bco
Viela: viela viel
Passagem: passagem psg pass pas psgm
Servidão: servidao serv srv
Boulevard: boulevard blvd boul bulevar bvd
Via: via
Viaduto: viaduto vd
Calçada: calcada
Marginal: marginal
Ramal: ramal
Vicinal: vicinal vic
Linha: linha lin
Picada: picada
Acesso: acesso
Caminho: caminho cam
Esplanada: esplanada
Escadaria: escadaria
Contorno: contorno
Perimetral: perimetral
Transversal: transversal
Anel: anel
Sítio: sitio sit
Fazenda: fazenda faz
Chácara: chacara chac
Assentamento: assentamento
Estância: estancia
Rancho: rancho
Haras: haras
Vila: vila vl vla
Quadra: quadra
""")
# Two-letter or common words that are a type only where a field begins or with a full stop.
WEAK_TYPES: Final = _words("""
al ala est pr pass pas serv lg ld pc via vd cam ru anel linha acesso contorno vic lin bc caminho marginal r
""")
# Types that also name a quarter, an estate or a complement: a street only when nothing else is.
LAST_RESORT_TYPES: Final = _words("""
vila vl vla quadra sitio sit fazenda faz chacara chac assentamento estancia rancho haras
""")
RURAL_TYPES: Final = _words("""
sitio sit fazenda faz chacara chac linha vicinal vic ramal picada assentamento estancia rancho haras
""")
# Types of a few well-known streets, and quarters' first words elsewhere: a street only where a name without a type
# would be one, and with a preposition behind them ("Praia de Botafogo, 300", "Cais do Apolo, 222").
OPENING_TYPES: Final = _table("""
Praia: praia
Cais: cais
Pátio: patio
Campo: campo
Corredor: corredor
Vereda: vereda
Escadinha: escadinha
Baixa: baixa
Passeio: passeio
Ponte: ponte
Rampa: rampa
""")
# Words after which a number belongs to the street's name ("Arterial 5-B", "Projetada 12", "WE 73").
NUMBERED_STREET_WORDS: Final = _words("""
arterial radial projetada transversal perimetral coletora lateral marginal vicinal linha local we travessa rua
av avenida alameda quadra zona via particular norte sul
""")
MONTHS: Final = _words("""
janeiro fevereiro marco abril maio junho julho agosto setembro outubro novembro dezembro
""")

TITLES: Final = _table("""
Doutor: dr
Doutora: dra
Professor: prof
Professora: profa
Coronel: cel
General: gal gen
Marechal: mal mar
Almirante: alm
Brigadeiro: brig
Capitão: cap
Major: maj
Tenente: ten
Sargento: sgt sarg sgto
Engenheiro: eng engo
Engenheira: enga
Desembargador: des desemb
Governador: gov
Senador: sen
Deputado: dep
Vereador: ver
Prefeito: pref
Presidente: pres
Ministro: min
Conselheiro: cons
Monsenhor: mons
Padre: pe
Comendador: com comend cdor
Comandante: cmte comte cte
Visconde: visc vde
Santo: sto
Santa: sta
Senhora: sra
Senhor: sr
Intendente: int
Vigário: vig
Reverendo: rev
Inspetor: insp
Cardeal: card
Embaixador: emb
Marquês: marq
Alferes: alf
Expedicionário: exped
Jornalista: jorn
Arquiteto: arq
Maestro: maest
Procurador: proc
Agrônomo: agron agr
Historiador: hist
Frei: fr
Barão: bar
Acadêmico: acad
Soldado: sold sd
Cabo: cb
Aviador: aviad
Escritor: escrit
""")
# Short titles that are also words, states or surnames: expanded only with a full stop or right after the street type.
WEAK_TITLES: Final = _words("""
pe com min mar ver des int cap ten gen sr sra cte cons
""")
# Rare titles: expanded only with a full stop.
DOTTED_TITLES: Final = _words("""
vig rev insp card emb marq alf exped jorn arq maest proc agron agr hist fr bar acad sold sd cb aviad escrit
""")
FEMININE_SAINTS: Final = _words("""
maria rita luzia cruz clara helena teresa tereza rosa barbara cecilia monica catarina isabel ines fe efigenia
terezinha teresinha lucia amelia candida marta paula genoveva edwiges gertrudes ana izabel margarida bernadete
filomena adelia julia quiteria
""")
DOM_NAMES: Final = _words("""
pedro joao bosco luis luiz manuel manoel helder aquino orione aguirre jose joaquim fernando sebastiao avelar
silverio cabral vital delgado lustosa emanuel henrique
""")
DONA_NAMES: Final = _words("""
maria ana isabel izabel leopoldina francisca teresa tereza carlota julia rosa amelia antonia gertrudes veridiana
germaine
""")

# How quarters begin; the short forms are written out.
DISTRICT_WORDS: Final = _table("""
Jardim: jardim jd jard jdm jrd
Jardins: jardins
Vila: vila vl vla
Vilas: vilas
Parque: parque pq prq parq pque
Setor: setor st set
Cidade: cidade cid
Residencial: residencial res resid
Conjunto: conjunto cj conj
Habitacional: habitacional hab
Loteamento: loteamento lot loteam
Balneário: balneario bal baln
Chácara: chacara ch chac
Chácaras: chacaras
Núcleo: nucleo nuc
Distrito: distrito dist
Industrial: industrial ind
Bosque: bosque
Alto: alto
Portal: portal
Recanto: recanto
Morada: morada
Centro: centro ctr ct
Zona: zona
Bairro: bairro
Praia: praia
Granja: granja
Quinta: quinta
Colônia: colonia
Povoado: povoado pov
Cohab: cohab
Nova: nova
Novo: novo
""")
# A quarter may begin with these even where no separator says so.
STRONG_STARTERS: Final = _words("""
jardim jd jard jdm vila vl vla parque pq prq parq setor st residencial resid centro loteamento conjunto bairro zona
cohab balneario chacaras distrito povoado portal jardins vilas
""")
# What is no quarter's whole name.
GENERIC_QUARTERS: Final = _words("""
norte sul leste oeste vila vl jardim jd parque pq conjunto conj cj residencial res setor st loteamento lot bairro
cidade cid nucleo zona
""")
# Words before which "B." is short for "Bairro" and not for Bom, Boa, Bela or Balneário.
AFTER_SHORT_LABEL: Final = _words("""
sao santo santa nossa sto sta n dom
""")
# What Bom, Boa, Bela, Barra or Batista stand before, so that "B." may be short for them.
AFTER_GOOD: Final = _words("""
vista jesus fim retiro pastor sucesso esperanca sorte viagem destino principio conselho despacho lugar repouso sossego
gosto hora uniao ventura aurora alianca aires camboriu campos ville parque horizonte funda grande velha jardim nova
""")
# Estates: a complement when another quarter is there, else the quarter itself.
ESTATE_WORDS: Final = _words("""
residencial res resid conjunto conj cj loteamento lot village vilage chacara chac sitio fazenda
""")
# Buildings: a complement wherever they stand.
BUILDING_WORDS: Final = _table("""
Edifício: edificio ed edf edif edificios
Condomínio: condominio cond condom
Prédio: predio
Shopping: shopping
Galeria: galeria
Hospital: hospital
Galpão: galpao
Centro Comercial: ccomercial
""")

# Complement keywords that take a value, by every way of writing them.
UNIT_WORDS: Final = _table("""
Apartamento: apartamento ap apt apto apart aptos aps aparto
Bloco: bloco bl blc bloc blco
Casa: casa cs
Loja: loja lj
Sala: sala sl salas
Conjunto: conjunto cj conj
Quadra: quadra qd qda qdr q
Lote: lote lt lte lto l lts lotes
Gleba: gleba gl
Torre: torre tr
Andar: andar and
Piso: piso
Box: box
Galpão: galpao galp
Unidade: unidade unid un und
Módulo: modulo mod
Km: km quilometro
Chácara: chacara ch chac
Trecho: trecho
Pavimento: pavimento pav
Cobertura: cobertura cob
Sobreloja: sobreloja slj
Subsolo: subsolo
Fundos: fundos fds fd fundo
Frente: frente
Térreo: terreo ter
Sobrado: sobrado sob
Altos: altos
Lado: lado
Entrada: entrada
Portão: portao
Kitnet: kitnet kit kitinete quitinete
Anexo: anexo
Área Especial: ae
Letra: letra
Edícula: edicula
Porão: porao
Bangalô: bangalo
Suíte: suite
Vaga: vaga
Flat: flat
""")
# Bound to a number right behind another unit: "ap 501 T2".
BEHIND_FLATS: Final = {"t": "Torre", "b": "Bloco"}
# The units that may stand alone.
ALONE_UNITS: Final = _words("""
Casa Fundos Frente Térreo Sobrado Altos Sobreloja Subsolo Cobertura Kitnet Anexo Galpão Edícula Porão
""")
VALUELESS_UNITS: Final = _words("""
Fundos Frente Térreo Altos Edícula Porão
""")
# Short units that are also words, titles or states: only with a value that can be one.
WEAK_UNITS: Final = _words("""
q l ch tr un and ap gl ter sob mod fd ae kit lado frente entrada portao letra altos chac chacara sala casa
""")

# What a label announces; "" is a field that is none of ours and whose value is dropped.
LABELS: Final = {
    label: field.strip("-")
    for label, field in _table("""
rua: logradouro logr log endereco end ender rua
numero: numero num nr nro no n
complemento: complemento compl comp cpl cmpl
bairro: bairro bair bro brr bai b
cidade: cidade cid municipio mun munic localidade c
estado: estado uf est
cep: cep
-: telefone tel fone cel celular whatsapp whats zap contato nome paciente obs observacao referencia ref email
-: mail cpf rg convenio responsavel resp pais mae pai filho filha esposa marido data horario hora idade
-: nascimento nasc sus carteira carteirinha plano exame exames acompanhante medico
""").items()
}
# Words that may stand between a label and its colon: "End. Res.:", "Endereço completo:".
LABEL_QUALIFIERS: Final = _words("""
res resid residencial com comercial completo completa atual principal domiciliar paciente
""")
# Labels of a record written without colons, "ENDERECO … NUM … BAIRRO … CID … UF …", told by how many of them there are.
SERIAL_LABELS: Final = _words("""
endereco logradouro numero num nro complemento compl bairro cidade cid municipio estado uf cep
""")
# Labels that are understood without a colon.
BARE_LABELS: Final = _words("""
bairro cep uf numero num nr nro logradouro compl cpl complemento telefone tel fone celular whatsapp whats zap
municipio cpf rg
""")

NULL_SLOTS: Final = _phrases("""
null | nan | none | nil | n a | n d | na | nd | n i | ni | nao informado | nao informada | nao consta | nao tem | nulo
sem informacao | sem complemento | sem bairro | s bairro | s complemento | s comp | sem cep | undefined | vazio
nao possui | nao sabe | nao lembra | ignorado | desconhecido | pendente
nao ha | sem comp | nao se aplica | em branco | x | xx | xxx | xxxx | a confirmar
""")

REFERENCE_WORDS: Final = _words("""
proximo proxima prox px perto atras esquina esq defronte vizinho vizinha referencia ref fte antes depois apos
altura sentido lado frente entre pto
""")
# What may stand between the beginning of a text and its street: "Mora na Rua …".
LEAD_WORDS: Final = _words("""
mora moro morador moradora reside resido residente residencia domiciliado domiciliada fica na no a em endereco
end local e o situado situada domiciliados residentes
""")
# What stands in a remark with its colour: "portão azul" (Portão alone is a quarter of Curitiba).
PAINTED_WORDS: Final = _words("""
portao muro predio grade fachada porta sobrado toldo
""")
COLOURS: Final = _words("""
azul amarelo amarela branco branca verde vermelho vermelha preto preta cinza marrom bege rosa laranja roxo roxa
creme
""")
REFERENCE_PHRASES: Final = _phrases("""
em cima | do outro | ao lado | em frente | na esquina | do lado | a frente | ponto de | por tras | na frente
""")
REFERENCE_FIRST: Final = REFERENCE_WORDS | PAINTED_WORDS | {phrase.split()[0] for phrase in REFERENCE_PHRASES}
PERSON_WORDS: Final = _words("""
sr sra srta paciente acompanhante responsavel nome
""")
CONTACT_PHRASES: Final = _phrases("falar com | aos cuidados | contato com | procurar por | a c")
# The words that may open a reference or a contact.
ASIDE_FIRST: Final = REFERENCE_FIRST | {phrase.split()[0] for phrase in CONTACT_PHRASES}
NOTE_WORDS: Final = _words("""
obs observacao observacoes anotacao anotacoes nota notas recado atencao aviso falar procurar ligar confirmar
confirmado avisar tocar interfone campainha cuidado cachorro entregar retirar agendar agendado pediu cuidadora
recepcao whatsapp chamar aguardar mora buzinar interfonar deixar buscar portaria horario coleta coletar colher
favor paciente
""")
ORDER_WORDS: Final = _words("""
ignore ignorar ignorem desconsidere desconsiderar esqueca instrucao instrucoes prompt json retorne retornar
responda responder preencha preencher devolva devolver substitua assistant assistente override output system
instruction instructions instruct previous forget disregard answer return comando execute coloque escreva
imprima regra regras modelo
""")
# ... which a street may be named after or an honest note may hold: they announce an order only beside another.
WEAK_ORDER_WORDS: Final = _words("""
modelo regra regras system comando return answer coloque escreva assistente execute
""")

FOREIGN_WORDS: Final = _words("""
street avenue calle road strasse
""")
COUNTRIES: Final = _words("""
argentina portugal usa eua paraguai paraguay uruguai uruguay chile bolivia peru espanha espana italia
japao alemanha inglaterra mexico colombia venezuela canada angola mocambique suica
""")

PREPOSITIONS: Final = _words("""
de da do das dos e em na no nas nos a ao aos com para del la y d sobre
""")
ROMAN: Final = _words("""
i ii iii iv v vi vii viii ix x xi xii xiii xiv xv xvi xvii xviii xix xx xxi xxii xxiii xxv
""")

# One abbreviated word of a municipality's name and the words it may stand for.
CITY_SHORTS: Final = _many("""
s: sao santo santa sul; sto: santo; sta: santa; n: nova novo nossa norte; nsa: nossa; nsra: nossa; sra: senhora;
b: balneario bom boa barra belo bela; bal: balneario; baln: balneario; j: jose joao; ap: aparecida; pres: presidente;
gov: governador; cel: coronel; mal: marechal; dr: doutor; gal: general; gen: general; sen: senador; pe: padre; v:
vitoria vila; vit: vitoria; cons: conselheiro; pto: porto; p: porto padre; rib: ribeirao; fco: francisco; f:
feira; m: monte maria; dep: deputado; ten: tenente; eng: engenheiro; cap: capitao; maj: major; d: dom; ant:
antonio; sr: senhor; c: campo cachoeiro cachoeira; cach: cachoeiro cachoeira; jab: jaboatao; q: queimados; faz:
fazenda; prof: professor; des: desembargador; mons: monsenhor; min: ministro; visc: visconde; mte: monte; pta:
ponta; st: santo; vl: vila
""")

# Streets without a type of two more planned towns: Palmas (areas by side and use, "ARSE 51"), Nova Marabá ("Folha 27").
TOWN_CODES: Final = {
    ("TO", "Palmas"): _words("arse arso arne arno acse acso acne acno acsu asr alc"),
    ("PA", "Marabá"): _words("folha"),
}
ALL_TOWN_CODES: Final = frozenset[str]().union(*TOWN_CODES.values())
# First words of the addresses of Brasília's sectors and quadras (GDF), all in capitals.
DF_CODES: Final = _words("""
sqs sqn sqsw sqnw sqb cls cln clsw clnw shis shin shcs shcn shcgn shces shcgs shcsw sgas sgan scs scn sbs sbn
sds sdn shs shn sas san saus saun seps sepn sia sig saan sof soft sria sre srs qi ql qe qnm qnn qnp qno qnq qnr
qnl qnj qna qnb qnc qnd qne qnf qng qnh qs qn qr qc qms qsa qsb qsc qsd qse qsf eqs eqn eqnp eqnm eqnn eqno eqnl
eql aos ade csa csb csc csd cse csf csg cnb cna cnc cnd cnm cnn cnf cng smpw shvp shsn shtq mspw aec aee ea sces
scen sgcv sgo smu smas smhs smhn shps shpn smln smls shtn sctn scts setor cnr cl clr clrn qmsw ccsw cca ccb epia
eptg sqhn csgn sml sgon srtvs srtvn eqsw eqnw ca sep sha shj shd shln qd quadra ec
""")
